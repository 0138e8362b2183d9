"""The phrases that WhatsApp itself writes into an export, in many languages: one table for each kind.

A phrase here is compared with a whole line, or with what stands in brackets, and never looked for inside a sentence.
So "the image was omitted" stays what a person said. Case, a full stop at the end and kinds of spaces do not matter.
"""


def _table(text: str) -> tuple[str, ...]:
    """The phrases of a table: a bar or the end of a line parts them."""
    return tuple(phrase.strip() for phrase in text.replace("\n", "|").split("|") if phrase.strip())


AM_PM = _table(
    """
    да паўдня | пасля паўдня | да полудня | ам | пм | то | тк | тң | sf | ym | safiya | yamma | n’ụtụtụ
    n’abalị | gh | gd | صبح، منجهند | شام، منجهند | go.öň | go.soň | am vormittag | am namittag | vorm
    nam. | ቅ.ቀ. | ድ.ቀ. | چ.ب | چ.ك | פֿאַרמיטאָג | נאָכמיטאָג | ب.ن | د.ن | bn | pn | moies | nomëttes | isuk
    wengi | поподне | приjeподне | преподне | am | pm | a.m. | p.m. | a.m | p.m | a. | p. | a | p
    in the morning | in the afternoon | in the evening | at night | noon | midnight | vorm. | nachm.
    vm. | nm. | v | n | m. | f.h. | e.h. | f. | e. | fm | em | fm. | em. | förmiddag | eftermiddag
    f.m. | e.m. | ap. | ip. | ap | ip | dop. | odp. | pop. | d | dopoldne | popoldne | prijepodne
    popodne | prije podne | po podne | претпл. | попл. | пре подне | по подне | пр.об. | сл.об.
    пр. об. | сл. об. | дп | пп | д.п. | п.п. | до полудня | после полудня | утра | дня | вечера | ночи
    de. | du. | de | du | π.μ. | μ.μ. | πμ | μμ | öö | ös | to | tk | ص | م | صباحًا | مساءً | صباحا
    مساء | ق.ظ. | ب.ظ. | ق.ظ | ب.ظ | قبل‌ازظهر | بعدازظهر | قبل از ظهر | بعد از ظهر | ق | ب | ق‌ظ | ب‌ظ
    قبل دوپہر | بعد دوپہر | לפנה״צ | אחה״צ | לפנה"צ | אחה"צ | לפנה״ | צ | אחה״ | לפני הצהריים
    אחרי הצהריים | पूर्वाह्न | अपराह्न | पूर्वा | अप | म.पू. | म.उ. | પૂર્વ | મધ્યાહ્ન | ਪੂ.ਦੁ. | ਬਾ.ਦੁ. | ਸ. | ਸ਼.
    পূর্বাহ্ণ | অপরাহ্ণ | முற்பகல் | பிற்பகல் | ఉ | సా | ಪೂರ್ವಾಹ್ನ | ಅಪರಾಹ್ನ | ก่อนเที่ยง | หลังเที่ยง | sa | ch | s | c
    sáng | chiều | pg | ptg | pagi | petang | siang | sore | malam | 午前 | 午後 | 오전 | 오후 | 上午
    下午 | 午夜 | 早上 | 中午 | 晚上 | 凌晨 | 清晨 | 傍晚 | 深夜 | priekšp. | pēcp. | priekšpusdienā
    pēcpusdienā | pēcpusd. | priešpiet | popiet | pr.p. | p.d. | m.d. | e paradites | e pasdites
    paradite | pasdite | g | r.n. | i.n. | yb | yh | ա | հ | կա | կհ | ү.ө. | ү.х. | နံနက် | ညနေ | ព្រឹក
    ល្ងាច | ກ່ອນທ່ຽງ | ຫຼັງທ່ຽງ | පෙ.ව. | ප.ව. | ጥዋት | ከሰዓት | ጠ | ከ | asubuhi | alasiri | mchana | usiku
    matí | tarda | asteartea | de la mañana | de la tarde | da manhã | da tarde | du matin
    de l'après-midi
    """
)
"""Forms of a.m. and p.m., before or after the time. Blanks inside one (`a. m.`) do not matter."""

ENCRYPTED = _table(
    """
    end-to-end | end-tot-end | ende-zu-ende | ende-til-ende | extremo a extremo | extrem a extrem
    bout en bout | ponta a ponta | ponta-a-ponta | ponto a ponto | crittografat | crittografia
    versleuteld | uçtan uca | сквозным шифрованием | наскрізним шифруванням | szyfrowan | zaszyfrowan
    koncovým šifrováním | šifrovan | titkosít | titkosítás | criptare integrală | criptate integral
    κρυπτογρ | krypteret | kryptert | krypterade | kryptering | salataan | מוצפנ | הצפנה | مشفرة | مشفّرة
    التشفير | رمزگذاری | اینکرپٹ | اینکرپشن | एन्क्रिप्ट | एन्क्रिप्शन | एंड-टू-एंड | এনক্রিপ্ট | এনক্রিপশান
    종단간 | 종단 간 | 暗号化 | 端到端加密 | 端对端 | 端對端 | mã hóa đầu cuối | mã hoá đầu | การเข้ารหัส
    terenkripsi | enkripsi | disulitkan | penyulitan | enkripcij | šifriranj | шифриран | шифрован
    шифровање | шифрлау | otsast otsani | pilnīgu šifrēšanu | ištisiniu šifravimu | ufumbaji | மறையாக்க
    ఎన్క్రిప్షన్ | ಏನ್ಕ್ರಿಪ್ಷನ್ | എൻക്രിപ്ഷൻ | ગુપ્તીકરણ | શરૂથી અંત સુધી સુરક્ષિત | criptiúchán | fund-e-krye | şifrələn
    shifrlash
    """
)
"""Part of the first notice of every export: that the chat is encrypted."""

EDITED = _table(
    """
    edited | bearbeitet | editó | editado | editada | modifié | modificat | bewerkt | gewijzigd
    düzenlendi | edytowan | zmienion | изменено | изменён | изменен | отредактирован | відредагован
    змінено | تعديل | ویرایش | ترمیم | נערכ | एडिट | संपादित | এডিট | সম্পাদ | એડિટ | diedit | disunting
    chỉnh sửa | แก้ไข | 编辑 | 編輯 | 編集 | 수정 | 편집 | upraven | uređen | urejen | измењен | уређен
    редактиран | editat | szerkeszt | επεξεργ | redigera | redigeret | redigert | muokat | toimetat
    rediģēt | redaguot | düzəliş | redaktə | tahrirlan | өзгертіл | imehaririwa | gewysig | in-edit
    u redaktua | திருத்த | ఎడిట్ | ತಿದ್ದ | എഡിറ്റ്
    """
)
"""Part of the tag `<This message was edited>`."""

MEDIA = _table(
    """
    media | mediefil | médi | medien | medier | medij | mediju | mediteg | multimed | multimèd | mídia
    медиа | медіа | медиј | médias | fichier | ficheiro | archivo | arquivo | pliki | файл | fayl
    hiányzó | mitjans | medya | meedia | multivid | πολυμέσ | μέσων | αρχεία | vedlegg | الوسائط | وسائط
    ملفات | مدیا | رسانه | پيوست نما | پیوست نما | میڈیا | מדיה | מדיע | मीडिया | মিডিয়া | મીડિયા
    ਮੀਡੀਆ | ஊடக | మాధ్యమం | మీడియా | ಮೀಡಿಯಾ | മീഡിയ | สื่อ | phương tiện | メディア | 媒体 | 媒體 | 多媒体
    多媒體 | 미디어 | view once | einmalansicht | einmalig | una sola vez | vue unique
    visualização única | video note | videonachricht | voice message | sprachnachricht
    """
)
"""Part of what stands for a picture or recording that was left out: `<Media omitted>`."""

OMITTED = (
    r"(?:image|photo|video|video note|audio|voice message|sticker|gif|document|contact card|contact|"
    r"media) omitted",
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
    r"(?:bild|video|ljud|sticker|gif|dokument|kontaktkort) uteslut(?:en|et|na)|ljud utelslutet",
    r"(?:bilde|video|lyd|klistremerke|gif|dokument|kontaktkort) (?:utelatt|ikke inkludert|sløyfet)|"
    r"utelatt dokument",
    r"(?:billede|video|lyd|klistermærke|gif|dokument|kontaktkort) udeladt",
    r"ei kuvaa|videota ei sisällytetä|äänitiedostoa ei sisällytetä|tarraa ei sisällytetty|"
    r"gif-animaatio jätetty pois|dokumenttia ei sisällytetä|yhteystietokortti jätettiin pois|(?:kuva|"
    r"video|ääni|tarra) jätetty pois",
    r"(?:kép|videó|hang|matrica|gif fájl|gif|dokumentum|névjegykártya) (?:kihagyva|kihagyása|"
    r"küldése sikertelen)",
    r"(?:imagine|clip video|audio|sticker|gif|document|carte de vizită contact) omis[ăe]?|fără audio",
    r"(?:εικόνα|βίντεο|ήχος|αυτοκόλλητο|έγγραφο|η κάρτα επαφής|gif) παραλ(?:εί|ή)φθηκε|παράληψη gif",
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
    r"(?:图片|圖片|圖像|照片|视频|影片|音频|音訊|贴图|貼圖|文档|文件|联系人卡片|聯絡人卡片|gif ?(?:动态图|"
    r"圖片)?) ?(?:已省略|已略去|已忽略|已被忽略|已被省略)",
    r"(?:imatge|vídeo|àudio|adhesiu|gif|document|targeta de contacte) om[eè]s[oa]?",
)
"""What an iPhone writes for a picture, recording, document or card that was left out, one language a line."""

ATTACHED = _table(
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
    """
)
"""What an Android phone writes behind the name of a file: `IMG-20240603-WA0007.jpg (file attached)`."""

DELETED = _table(
    """
    यह मैसेज मिटाया गया | यह मैसेज मिटाया गया था | आपने यह मैसेज मिटाया | यह मैसेज डिलीट किया गया
    यह मैसेज डिलीट किया गया था | este mensaje se eliminó | borraste este mensaje
    has eliminado este mensaje | este mensaje ha sido eliminado | você eliminou esta mensagem
    ta wiadomość została skasowana | eliminasti questo messaggio | 您撤回了一条消息 | 你撤回了一条消息
    this message was deleted | you deleted this message | message deleted
    diese nachricht wurde gelöscht | du hast diese nachricht gelöscht | se eliminó este mensaje
    este mensaje fue eliminado | eliminaste este mensaje | ce message a été supprimé
    vous avez supprimé ce message | questo messaggio è stato eliminato | hai eliminato questo messaggio
    esta mensagem foi apagada | mensagem apagada | apagou esta mensagem | você apagou esta mensagem
    dit bericht is verwijderd | u hebt dit bericht verwijderd | je hebt dit bericht verwijderd
    данное сообщение удалено | сообщение удалено | вы удалили данное сообщение
    вы удалили это сообщение | це повідомлення було видалено | ви видалили це повідомлення
    bu mesaj silindi | bu mesajı sildiniz | ta wiadomość została usunięta | usunięto tę wiadomość
    usunąłeś(-ęłaś) tę wiadomość | usunąłeś(aś) tę wiadomość | usunąłeś tę wiadomość
    usunęłaś tę wiadomość | tato zpráva byla smazána | tato zpráva byla odstraněna
    tuto zprávu jste smazal/a | tuto zprávu jste odstranil/a | táto správa bola odstránená
    túto správu ste odstránili | det här meddelandet raderades | detta meddelande raderades
    du raderade det här meddelandet | du raderade detta meddelande | denne meldingen ble slettet
    du slettet denne meldingen | denne besked er blevet slettet | denne besked blev slettet
    du har slettet denne besked | du slettede denne besked | tämä viesti poistettiin
    poistit tämän viestin | ez az üzenet törlésre került | ezt az üzenetet törölted
    törölted ezt az üzenetet | acest mesaj a fost șters | ați șters acest mesaj
    αυτό το μήνυμα διαγράφηκε | διαγράψατε αυτό το μήνυμα | διαγράψατε το μήνυμα
    ova je poruka izbrisana | ova poruka je izbrisana | izbrisali ste ovu poruku
    to sporočilo je bilo izbrisano | съобщението беше изтрито | изтрихте това съобщение
    ова порука је обрисана | оваа порака беше избришана | הודעה זו נמחקה | מחקת את ההודעה הזו
    מחקת הודעה זו | تم حذف هذه الرسالة | لقد حذفت هذه الرسالة | أنت حذفت هذه الرسالة | این پیام حذف شد
    این پیام حذف شده است | شما این پیام را حذف کردید | یہ میسج حذف کر دیا گیا ہے
    آپ نے یہ میسج حذف کر دیا ہے | यह मैसेज डिलीट कर दिया गया है | यह मैसेज हटाया गया | यह संदेश मिटाया गया
    आपने यह मैसेज डिलीट किया | आपने यह संदेश मिटाया | हा मेसेज हटवण्यात आला | तुम्ही हा मेसेज हटवला
    এই মেসেজটি বাদ দেওয়া হয়েছে | আপনি এই মেসেজটি বাদ দিয়েছেন | આ મેસેજ ડિલીટ કરાયો | pesan ini dihapus
    pesan ini telah dihapus | anda menghapus pesan ini | anda telah menghapus pesan ini
    mesej ini telah dipadam | anda telah memadamkan mesej ini | tin nhắn này đã bị xóa
    tin nhắn này đã bị xoá | bạn đã xóa tin nhắn này | bạn đã xoá tin nhắn này | ข้อความนี้ถูกลบแล้ว
    ข้อความนี้ถูกลบ | คุณได้ลบข้อความนี้ | คุณลบข้อความนี้ | このメッセージは削除されました
    このメッセージを削除しました | 이 메시지는 삭제되었습니다 | 삭제된 메시지입니다
    삭제한 메시지입니다 | 이 메시지를 삭제했습니다 | 此消息已删除 | 这条消息已被删除 | 您已删除这条消息
    你删除了此消息 | 此訊息已刪除 | 您已刪除此訊息 | 你已刪除此訊息 | aquest missatge s'ha suprimit
    has suprimit aquest missatge | see sõnum on kustutatud | kustutasid selle sõnumi
    šī ziņa tika izdzēsta | ši žinutė buvo ištrinta | hierdie boodskap was uitgevee | bu ismarıc silindi
    ujumbe huu ulifutwa | itong mensahe ay binura na
    """
)
"""What stands in place of a message that was deleted."""

CALLS = _table(
    """
    missed voice call | missed video call | missed group voice call | missed group video call
    verpasster sprachanruf | verpasster videoanruf | verpasster gruppenanruf | llamada perdida
    llamada de voz perdida | videollamada perdida | appel vocal manqué | appel vidéo manqué
    chiamata vocale persa | videochiamata persa | chamada de voz perdida | videochamada perdida
    chamada de vídeo perdida | ligação de voz perdida | ligação de vídeo perdida | gemist spraakgesprek
    gemiste spraakoproep | gemiste video-oproep | gemist videogesprek | пропущенный аудиозвонок
    пропущенный видеозвонок | пропущений аудіодзвінок | пропущений відеодзвінок | cevapsız sesli arama
    cevapsız görüntülü arama | nieodebrane połączenie | nieodebrane połączenie głosowe
    nieodebrane połączenie wideo | zmeškaný hovor | zmeškaný hlasový hovor | zmeškaný videohovor
    missat röstsamtal | missat samtal | missat videosamtal | tapt taleanrop | tapt videoanrop
    ubesvaret taleopkald | ubesvaret videoopkald | vastaamaton äänipuhelu | vastaamaton videopuhelu
    nem fogadott hanghívás | nem fogadott videohívás | nem fogadott videóhívás | apel vocal nepreluat
    apel vocal ratat | apel video ratat | apel video nepreluat | αναπάντητη φωνητική κλήση
    αναπάντητη βιντεοκλήση | αναπάντητη κλήση | propušteni glasovni poziv | propušteni videopoziv
    שיחה קולית שלא נענתה | שיחת וידאו שלא נענתה | مكالمة صوتية فائتة | مكالمة فيديو فائتة
    تماس صوتی پاسخ داده نشده | تماس تصویری بی‌پاسخ | मिस्ड वॉइस कॉल | मिस्ड वीडियो कॉल | वॉइस कॉल मिस हुई
    মিসড ভয়েস কল | panggilan suara tak terjawab | panggilan video tak terjawab
    panggilan suara terlepas | cuộc gọi nhỡ | cuộc gọi nhỡ video | สายที่ไม่ได้รับ | วิดีโอคอลที่ไม่ได้รับ
    音声通話不在着信 | ビデオ通話不在着信 | 不在着信 | 부재중 전화 | 부재중 영상통화 | 부재중 음성 통화
    未接语音通话 | 未接视频通话 | 未接語音通話 | 未接視像通話 | 未接視訊通話 | trucada de veu perduda
    videotrucada perduda | waiting for this message | waiting for this message. this may take a while
    warte auf diese nachricht | warten auf diese nachricht
    warte auf diese nachricht. dies kann etwas dauern | you received a view once message
    view once message | view once photo | view once video | view once voice message
    live location shared | live-standort wird geteilt | ubicación en tiempo real compartida
    localisation en direct partagée | posizione attuale condivisa | live locatie gedeeld
    геоданные отправлены | mevcut konum paylaşıldı
    """
)
"""A call, or a message that the phone had not got or may not export, where a person's words would stand."""

LOCATIONS = _table(
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

GROUP = _table(
    """
    created group | created this group | was added | were added | added you | joined using
    joined from the community | changed the subject | changed the group | changed this group
    group's icon | security code | now an admin | no longer an admin | disappearing messages
    changed their phone number | changed to a new number | pinned a message | gruppe erstellt
    hinzugefügt | gruppe verlassen | einladungslink | betreff geändert | gruppenbild | gruppenname
    sicherheitsnummer | sicherheitscode | selbstlöschende nachrichten | creó el grupo | creó este grupo
    añadió a | te añadió | agregó a | salió del grupo | enlace de invitación | cambió el asunto
    código de seguridad | mensajes temporales | criou o grupo | criou este grupo | adicionou
    saiu do grupo | link de convite | mudou o nome | código de segurança | mensagens temporárias
    a créé le groupe | a ajouté | vous a ajouté | a quitté | lien d'invitation | code de sécurité
    messages éphémères | ha creato il gruppo | ha aggiunto | ha abbandonato | link di invito
    codice di sicurezza | messaggi effimeri | groep gemaakt | heeft de groep | toegevoegd
    uitnodigingslink | beveiligingscode | verdwijnende berichten | создал группу | создала группу
    создал(-а) группу | добавил | покинул | код безопасности | исчезающие сообщения | створив групу
    створила групу | grubu oluşturdu | grubu kurdu | gruba ekledi | gruptan ayrıldı | güvenlik kodu
    süreli mesaj | utworzył grupę | utworzyła grupę | kod bezpieczeństwa | znikające wiadomości
    vytvořil skupinu | vytvořila skupinu | bezpečnostní kód | skapade grupp | opprettet gruppe
    oprettede gruppe | loi ryhmän | létrehozta a csoportot | a creat grupul | δημιούργησε την ομάδα
    أنشأ | أضاف | غادر | رابط دعوة | رمز الأمان | یک گروه ایجاد | گروه را ایجاد | יצר/ה את הקבוצה
    יצר את הקבוצה | הוסיף/ה | עזב/ה | הצטרף/ה | קוד האבטחה | ने ग्रुप बनाया | को जोड़ा | सुरक्षा कोड
    membuat grup | menambahkan | tautan undangan | kode keamanan | pesan sementara | đã tạo nhóm
    đã thêm | mã bảo mật | ได้สร้างกลุ่ม | รหัสความปลอดภัย | グループを作成 | 追加しました | 退出しました
    セキュリティコード | 그룹을 만들 | 추가했습니다 | 나갔습니다 | 보안 코드 | 创建了群组 | 创建了此群组
    建立了群組 | 添加了 | 安全代码 | 安全碼
    """
)
"""Part of what the app tells about a group or a phone. Looked for only in lines that have no name."""
