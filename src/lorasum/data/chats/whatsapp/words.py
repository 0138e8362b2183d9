"""The phrases that WhatsApp itself writes into an export, in many languages: one table for each kind.

A phrase here is compared with a whole line, or with what stands in brackets, and never looked for inside a sentence.
So "the image was omitted" stays what a person said. Case, a full stop at the end and kinds of spaces do not matter.
"""

import unicodedata


def table(text: str) -> tuple[str, ...]:
    """The phrases of a table, in Unicode's form C: a bar or the end of a line parts them."""
    text = unicodedata.normalize("NFC", text)
    return tuple(phrase.strip() for phrase in text.replace("\n", "|").split("|") if phrase.strip())


EDITED = table(
    """
    edited | bearbeitet | editó | editaste | editado | editada | modifié | modificat | bewerkt | gewijzigd
    düzenlendi | edytowan | zmienion | изменено | изменён | изменен | отредактирован | відредагован
    змінено | تعديل | ویرایش | ترمیم | נערכ | एडिट | संपादित | এডিট | সম্পাদ | એડિટ | diedit | disunting
    chỉnh sửa | แก้ไข | 编辑 | 編輯 | 編集 | 수정 | 편집 | upraven | uređen | urejen | измењен | уређен
    редактиран | editat | szerkeszt | επεξεργ | redigera | redigeret | redigert | muokat | toimetat
    rediģēt | redaguot | düzəliş | redaktə | tahrirlan | өзгертіл | imehaririwa | gewysig | in-edit
    u redaktua | திருத்த | ఎడిట్ | ತಿದ್ದ | എഡിറ്റ്
    muudeti | изменет | in eagar | ਐਡਿਟ | ਸੋਧ
    """
)
"""Part of the tag `<This message was edited>`."""

MEDIA = table(
    """
    media | medie | médi | medij | mediju | mediteg | multimed | multimèd | mídia
    медиа | медіа | медиј | médias | fichier | ficheiro | archivo | arquivo | pliki | файл | фајл | fayl
    hiányzó | mitjans | medya | meedia | multivid | πολυμέσ | μέσων | αρχεία | vedlegg | الوسائط | وسائط
    ملفات | مدیا | رسانه | پيوست نما | پیوست نما | میڈیا | מדיה | מדיע | मीडिया | মিডিয়া | મીડિયા
    ਮੀਡੀਆ | ஊடக | మాధ్యమం | మీడియా | ಮೀಡಿಯಾ | മീഡിയ | สื่อ | phương tiện | メディア | 媒体 | 媒體 | 多媒体
    多媒體 | 미디어 | view once | einmalansicht | einmalig | una sola vez | vue unique
    visualização única | video note | videonachricht | voice message | sprachnachricht
    медия | மீடியா | meáin | mídias
    """
)
"""Part of what stands for a picture or recording that was left out: `<Media omitted>`."""

DOCUMENTS = table(
    """
    docum | dokum | документ | belge | έγγραφ | مستند | سند | מסמך | दस्तावेज | tài liệu | 文件 | 文档 | 문서
    ドキュメント | 書類
    """
)
"""Part of what stands for a document, in front of which an iPhone writes the document's name."""

OMITTED = (
    r"(?:image|photo|video|video note|video message|audio|voice message|sticker|gif|document|contact card|contact|"
    r"media|location|live location) omitted|gif attached|\d+ contacts? shared",
    r"(?:bild|foto|video|videonachricht|audio|sprachnachricht|sticker|gif|dokument|kontaktkarte|"
    r"medien) (?:weg|aus)gelassen",
    r"(?:imagen|foto|v[ií]deo|audio|sticker|gif|documento|tarjeta de contacto|nota de v[ií]deo|"
    r"archivo) omitid[oa]",
    r"(?:imagem|foto|v[ií]deo|áudio|audio|figurinha|sticker|gif|documento|cartão do contato|"
    r"mídia) (?:ocultad?[oa]|omitid[oa])",
    r"(?:imagem|vídeo|ficheiro de áudio|sticker|gif|documento|contacto) não revelad[oa]",
    r"(?:image|vidéo|audio|sticker|gif|document|fiche contact|photo) (?:absente?|omise?|manquante?|retiré)",
    r"(?:immagine|foto|video|audio|sticker|gif|documento|scheda contatto|videomessaggio) (?:omess[oa]|"
    r"esclusa|non incluso)",
    r"(?:afbeelding|foto|video|audio|sticker|gif|document|visitekaartje) weggelaten",
    r"(?:изображение|видео|аудио|аудиофайл|стикер|gif|документ|карточка контакта) (?:отсутствует|"
    r"не добавлен|пропущен[оа]?)",
    r"(?:зображення|відео|аудіо|наклейку|gif-анімацію|документ|картка контакту) (?:відсутн[єя]|не додано|"
    r"пропущено)",
    r"(?:görüntü|video|ses|çıkartma|gif|belge|kişi kartı|görüntülü not|video notu|"
    r"konum) (?:dahil edilmedi|çıkarıldı)",
    r"(?:obraz|zdjęcie|wideo|film|audio|dokument|plik gif|gif) pominięt[yea]|pominięt[oay] (?:naklejkę|"
    r"wizytówka kontaktu|obraz|wideo|audio|plik audio|dokument|gif)",
    r"(?:obrázek|obrázok|video|zvukový soubor|zvuk|nálepka|gif|dokument|vizitka|"
    r"karta kontaktu) vynech(?:án[ao]?|an[ýáé])",
    r"(?:bild|video|ljud|sticker|gif|dokument|kontaktkort) (?:uteslut(?:en|et|na)|utelämna[dt])|ljud utelslutet",
    r"(?:bilde|video|lyd|klistremerke|gif|dokument|kontaktkort) (?:utelatt|ikke inkludert|sløyfet)|"
    r"utelatt dokument",
    r"(?:billede|video|lyd|klistermærke|gif|dokument|kontaktkort) udeladt",
    r"ei kuvaa|videota ei sisällytetä|äänitiedostoa ei sisällytetä|tarraa ei sisällytetty|"
    r"gif-animaatio jätetty pois|dokumenttia ei sisällytetä|yhteystietokortti jätettiin pois|(?:kuva|"
    r"video|ääni|tarra) jätetty pois",
    r"(?:kép|videó|hang|matrica|gif fájl|gif|dokumentum|névjegykártya) (?:kihagyva|kihagyása|"
    r"küldése sikertelen)",
    r"(?:imagine|clip video|audio|sticker|gif|document|carte de vizită contact) omis[ăe]?|fără audio",
    r"(?:(?:η|ο|το) )?(?:εικόνα|βίντεο|ήχος|αυτοκόλλητο|έγγραφο|κάρτα επαφής|gif) παραλ(?:εί|ή)φθηκε|παράληψη gif",
    r"(?:slika|video|zvuk|naljepnica|gif|dokument|posjetnica) izostavljen[ao]?",
    r"(?:ה?תמונה|סרטון(?: הווידאו)?|ה?וידאו|קטע קול|ה?אודיו|ה?שמע|ה?סטיקר|ה?מדבקה|gif|כרטיס איש קשר|"
    r"ה?מסמך|ה?מדיה) (?:הושמטה?|מושמטת?)",
    r"لم يتم إدراج .{3,25}|تم حذف الملصقات|تم استبعاد (?:الصورة|الفيديو|مقطع الفيديو|الصوت|الملصق|المستند|"
    r"جهة الاتصال)",
    r"(?:تصویر|ویدیو|صدا|استیکر|gif|برگ مخاطب|سند) حذف شد|(?:ویڈیو|آڈیو|اسٹیکر|gif|دستاویز) +نظر ?انداز|"
    r"تصویر نکال دی گئی ہے|رابطہ کارڈ نظر انداز",
    r"(?:फ़ोटो|ऑडियो|वीडियो|स्टिकर|gif|डॉक्यूमेंट|कॉन्टैक्ट कार्ड) (?:हटाई ग[ईय]ी?|छोड़ा गया)|(?:इमेज|व्हिडीओ|ऑडिओ|"
    r"स्टिकर|gif|डॉक्युमेंट|संपर्क कार्ड) वगळल[ीाे]",
    r"(?:ইমেজ|ভিডিও|অডিও|স্টিকার|জিআইএফ|ডকুমেন্ট|পরিচিতির কার্ড) বাদ দেওয়া হয়েছে",
    r"(?:gambar|video|audio|stiker|pelekat|gif|dokumen|kartu kontak|imej|kad kenalan) tidak (?:disertakan|"
    r"dimasukkan)",
    r"(?:đã )?bỏ (?:qua )?(?:hình ảnh|ảnh gif|video|tệp âm thanh|thẻ liên lạc|sticker|tài liệu)",
    r"ไม่มี(?:รูปภาพ|ไฟล์เสียง|สติกเกอร์)|วิดีโอถูกลบ|ละเว้น ?(?:gif|เอกสาร)|บัตรรายชื่อที่ละเว้น",
    r"(?:画像|ビデオ|動画|音声|スタンプ|gif|ドキュメント)は(?:含まれていません|省略されました)|"
    r"連絡先カードを省略",
    r"(?:이미지|사진|비디오|동영상|오디오|음성|스티커|gif|문서|연락처 카드) ?(?:생략됨|제외됨)",
    r"(?:图片|图像|圖片|圖像|照片|视频|影片|音频|音訊|贴图|貼圖|文档|文件|联系人卡片|聯絡人卡片|gif ?(?:动态图|"
    r"圖片)?) ?(?:已省略|已略去|已忽略|已被忽略|已被省略)",
    r"(?:íomhá|físeán|comhad fuaime|gif|cáipéis|cárta teagmhála)(?: ligthe)? ar lár|fágadh an greamán ar lár",
    r"(?:છબી|વિડિયો|સ્ટીકર|gif|સંપર્કનું કાર્ડ) પડત.{1,3} મ.{1,2}કા(?:ઈ|યું)|ઓડિયો ફાઇલ શામેલ કરી નથી|"
    r"ડોક્યુમેન્ટ સામેલ કર્યું નહિ",
    r"(?:imatge|vídeo|àudio|adhesiu|gif|document|targeta de contacte) om[eè]s[oa]?",
)
"""What an iPhone writes for a picture, recording, document or card that was left out, one language a line."""

ATTACHED = table(
    """
    file attached | archivo adjunto | archivo adjuntado | fichier joint | datei angehängt
    arquivo anexado | ficheiro anexado | file allegato | allegato | bestand bijgevoegd | файл добавлен
    файл прикреплен | файл прикреплён | файл додано | dosya ekli | załączony plik | plik załączony
    soubor byl přiložen | soubor přiložen | súbor pripojený | súbor bol priložený | bifogad fil
    vedlagt fil | fil vedlagt | fil vedhæftet | vedhæftet fil | liitetiedosto | tiedosto liitetty
    fájl csatolva | csatolt fájl | fișier atașat | fişier ataşat | συνημμένο αρχείο
    επισυνάφθηκε αρχείο | datoteka u privitku | priložena datoteka | прикачен файл | прикачен фајл
    прикачена датотека | קובץ מצורף | הקובץ צורף | الملف مرفق | ملف مرفق | فایل پیوست شد | پیوستہ فائل
    फाइल अटैच कर दी गई है | फ़ाइल अटैच की गई | फाइल संलग्न | ফাইল সংযুক্ত হয়েছে | ફાઇલ જોડાયેલ | ਫਾਈਲ ਅਟੈਚ ਕੀਤੀ
    ఫైల్ జోడించబడినది | ಕಡತ ಸೇರಿಸಲಾಯಿತು | ഫയൽ ചേർത്തു | file terlampir | fail dilampirkan | tệp đính kèm | ไฟล์ที่แนบ
    ไฟล์แนบ | 添付ファイル有り | 添付ファイル | ファイル添付 | 파일 첨부됨 | 파일 첨부 | 文件附件 | 附件
    附件檔案 | 檔案附件 | 文件已附加 | arxiu adjunt | fitxer adjunt | fail lisatud | pievienots fails
    byla prisegta | lêer aangeheg | fayl əlavə olunub | fayl biriktirildi | қосымша файл
    skedë e ngjitur | faili limeambatanishwa | nakalakip na file
    plik dołączony | załączono plik | fil bifogad | файл долучено | फ़ाइल अटैच की गई है | ไฟล์ที่แนบมา
    file đính kèm | 檔案已附加 | 附加檔案 | 已附加檔案 | 文件已添加 | ফাইল সংযুক্ত করা হয়েছে | fitxer adjuntat
    tiedosto liitettynä
    """
)
"""What an Android phone writes behind the name of a file: `IMG-20240603-WA0007.jpg (file attached)`."""

LOCATIONS = table(
    """
    location | standort | ubicación | localisation | posizione | localização | locatie | местоположение
    місцезнаходження | konum | położenie | lokalizacja | poloha | plats | posisjon | placering
    sijainti | helyzet | locație | τοποθεσία | lokacija | локација | מיקום | الموقع | موقع | موقعیت
    مقام | स्थान | স্থান | অবস্থান | સ્થળ | lokasi | vị trí | ตำแหน่งที่ตั้ง | ตำแหน่ง | 位置 | 位置情報 | 위치
    ubicació | asukoht | atrašanās vieta | buvimo vieta | ligging | məkan | joylashuv | vendndodhja
    mahali
    """
)
"""A place sent as a link to a map, or that a place is being shared."""

FORWARDED = table(
    """
    forwarded | forwarded many times | weitergeleitet | häufig weitergeleitet | reenviado
    reenviado muchas veces | transféré | transféré plusieurs fois | inoltrato | inoltrato molte volte
    encaminhada | encaminhada com frequência | doorgestuurd | vaak doorgestuurd | переслано | iletildi
    diteruskan | przekazano | 転送済み | 已转发 | 전달됨
    """
)
"""What WhatsApp's web page writes in brackets before a message that was passed on."""
