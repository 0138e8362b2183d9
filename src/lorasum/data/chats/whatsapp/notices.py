"""The sentences that WhatsApp itself writes into an export, in many languages: notices, and what replaces a message."""

from lorasum.data.chats.whatsapp.words import table

ENCRYPTED = table(
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
    shifrlash | कूटबद्ध | رمزکاری | криптиране | шифрирање | 암호화 | encriptad | ਇੰਕ੍ਰਿਪਸ਼ਨ
    ఎండ్-టు-ఎండ్ | ఎన్‌క్రిప్ట్ | ಎನ್‌ಕ್ರಿಪ್ಟ್ | എൻക്രിപ്റ്റ് | എൻഡ്-ടു-എൻഡ് | ਇਨਕ੍ਰਿਪਟ | ਇੰਕ੍ਰਿਪਟ
    ਐਂਡ-ਟੂ-ਐਂਡ | ถูกเข้ารหัส | เข้ารหัสจากต้นทาง | zimefumbwa
    şifrlən | shifrlan | шифрлан | šifriran | salattuja | krüpteeri | krüpti | šifrēt
    užšifruot | šifruojam | fshehtëzuar
    """
)
"""Part of the first notice of every export: that the chat is encrypted."""

DELETED = table(
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
    você apagou essa mensagem
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
    삭제한 메시지입니다 | 이 메시지를 삭제했습니다 | 此消息已删除 | 此消息已被删除 | 这条消息已被删除 | 您已删除这条消息
    你删除了此消息 | 此訊息已刪除 | 您已刪除此訊息 | 你已刪除此訊息 | aquest missatge s'ha suprimit
    has suprimit aquest missatge | see sõnum on kustutatud | kustutasid selle sõnumi
    šī ziņa tika izdzēsta | ši žinutė buvo ištrinta | hierdie boodskap was uitgevee | bu ismarıc silindi
    ujumbe huu ulifutwa | itong mensahe ay binura na
    scriosadh an teachtaireacht seo | aquest missatge està esborrat | 信息已删除 | हा संदेश हटविण्यात आला होता
    бұл хат жойылды | આ સંદેશ રદ્દ કરાયો | ushbu xabar o‘chirildi | یہ پیغام حذف کیا گیا
    இத்தகவல் திரும்பப்பெறப்பட்டது | ข้อความนี้ได้ถูกลบ | এই বার্তাটি মুছে ফেলা হয়েছে
    ഈ സന്ദേശം ഇല്ലാതാക്കിയതാണ് | ಈ ಸಂದೇಶವು ಅಳಿಸಲ್ಪಟ್ಟಿದೆ | esta mensagem foi apagada pelo remetente
    ਇਸ ਸੁਨੇਹੇ ਨੂੰ ਹਟਾਇਆ ਗਿਆ | لقد حذَفت هذه الرسالة | du har tagit bort meddelandet
    તમે આ મેસેજ ડિલીટ કર્યો | scrios tú an teachtaireacht seo | binura mo itong mensahe
    has esborrat aquest missatge | 您删除这个信息 | jūs izdzēsāt šo ziņu | आपण हा संदेश हटविलात
    сіз бұл хатты жойдыңыз | તમે આ સંદેશને રદ્દ કર્યો | siz ushbu xabarni o‘chirdingiz
    to sporočilo ste izbrisali | آپ نے اس پیغام کو حذف کیا | umefuta ujumbe huu
    இத்தகவலை தாங்கள் அழித்தீர்கள் | jūs ištrynėte šią žinutę | আপনি এই বার্তাটি মুছে ফেলেছেন
    jy het boodskap uitgevee | siz bu ismarıcı sildiniz | ഈ സന്ദേശം നിങ്ങൾ ഇല്ലാതാക്കി
    ја избриша оваа порака | ನೀವು ಈ ಸಂದೇಶವನ್ನು ಅಳಿಸಿದ್ದೀರಿ | обрисао/ла си ову поруку
    ਤੁਸੀਂ ਇਹ ਸੁਨੇਹਾ ਹਟਾਇਆ
    esta mensagem foi eliminada | eliminou esta mensagem | essa mensagem foi apagada
    apagaste esta mensagem | bu mesajı sildin | это сообщение удалено | це повідомлення видалено
    odstranili jste tuto zprávu | smazali jste tuto zprávu | ezt az üzenetet törölték
    ez az üzenet törölve lett | acest mesaj a fost şters | aţi şters acest mesaj
    detta meddelande har raderats | det här meddelandet har tagits bort | denne meldingen er slettet
    tämä viesti on poistettu | αυτό το μήνυμα έχει διαγραφεί | ההודעה הזו נמחקה | حذفت هذه الرسالة
    قمت بحذف هذه الرسالة | यह मैसेज मिटा दिया गया है | यह मैसेज हटा दिया गया है | यह मैसेज हटा दिया गया
    आपने यह मैसेज मिटा दिया है | आपने यह मैसेज डिलीट कर दिया है | mesej ini telah dipadamkan
    ข้อความนี้ถูกลบไปแล้ว | あなたはこのメッセージを削除しました | あなたがこのメッセージを削除しました
    你删除了这条消息 | 您删除了这条消息 | 您删除了此消息
    這則訊息已刪除 | 此訊息已被刪除 | 這則訊息已被刪除 | 你已刪除這則訊息
    您已刪除這則訊息 | 您刪除了此訊息 | 你刪除了此訊息 | 你刪除了這則訊息
    ова порука је избрисана | обрисали сте ову поруку | ova poruka je obrisana | obrisali ste ovu poruku
    това съобщение беше изтрито | това съобщение бе изтрито | táto správa bola vymazaná
    vymazali ste túto správu | ši žinutė ištrinta | šī ziņa tika dzēsta | ఈ సందేశం తొలగించబడింది
    మీరు ఈ సందేశాన్ని తొలగించారు | இந்தச் செய்தி நீக்கப்பட்டது | ಈ ಸಂದೇಶವನ್ನು ಅಳಿಸಲಾಗಿದೆ
    ഈ സന്ദേശം ഇല്ലാതാക്കി | આ મેસેજ ડિલીટ કરવામાં આવ્યો
    """
)
"""What stands in place of a message that was deleted."""

CALLS = table(
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
    videotrucada perduda
    view once photo | view once video | view once voice message
    live location shared | live-standort wird geteilt | ubicación en tiempo real compartida
    localisation en direct partagée | posizione attuale condivisa | live locatie gedeeld
    геоданные отправлены | mevcut konum paylaşıldı
    ভয়েস কল মিস করেছেন | مسڈ وائس کال | nieodebrane poł. głosowe | panggila suara terlepas
    मिस्ड व्हॉइस कॉल | છૂટી ગયેલો વોઇસ કૉલ | છૂટેલો વોઇસ કૉલ | guthghlao caillte | glao gutha caillte
    మిస్సేడ్ వాయిస్ కాల్ | nakaligtaang voice call | neatbildēts balss zvans | mistet opkald
    жауапсыз қоңырау | છૂટી ગયેલ ધ્વનિ કૉલ | छूटी हुई ध्वनि कॉल | o‘tkazib yub. ovozli qo‘ng‘iroq
    thirrje e shmangur | zgrešen klic | چھوٹی ہوئی صوتی کال | simu ya sauti uliyoikosa | தவறிய குரல் அழைப்பு
    praleistas balso skambutis | vastamata häälkõne | propušten glasovni poziv | пропуснато гласово обаждане
    stemoproep gemis | buraxılmış zəng | വിളി നഷ്ടപ്പെട്ടു | пропуштен гласовен повик | ತಪ್ಪಿದ ಧ್ವನಿ ಕರೆ
    пропуштен гласовни позив | ਮਿਸ ਹੋਈ ਆਵਾਜ਼ ਕਾਲ | ভিডিও কল মিস করেছেন | مسڈ ویڈیو کال
    nieodebrane poł. wideo | panggilan video terlepas | मिस्ड व्हिडिओ कॉल | છૂટી ગયેલ વિડિયો કૉલ
    físghlao caillte | తప్పిన వీడియోకాల్ | nakaligtaang video call | trucada de vídeo perduda
    neatbildēts video zvans | mistede video opkald | жауапсыз видео қоңырау | છૂટી ગયેલ વિડિઓ કૉલ
    छूटी हुई विडियो कॉल | o‘tkazib yub. videoqo‘ng‘iroq | videothirrje e shmangur | neodgovorjen video klic
    چھوٹی ہوئی ویڈیو کال | simu ya video uliyoikosa | தவறிய காணொலி அழைப்பு | สายโทรวิดีโอที่ไม่ได้รับ
    تماس تصویری پاسخ داده نشده | praleistas video skambutis | tapt videosamtale | vastamata videokõne
    propušten video poziv | пропуснато видео обаждане | মিস করা ভিডিও কল | video-oproep gemis
    buraxılmış video zəng | നഷ്ടമായ വീഡിയോ കാൾ | пропуштен видео повик | ತಪ್ಪಿದ ದೃಶ್ಯ ಕರೆ
    пропуштен видео позив | ਮਿਸ ਹੋਈ ਵੀਡੀਓ ਕਾਲ
    locație în timp real distribuită
    ప్రత్యక్ష స్థాన భాగస్వామ్యం | ibinahagi ang live na lokasyon | 實時位置已分享 | ubicació en directe compartida
    byla sdílena aktuální poloha | 共享实时位置 | lokasi terkini dibagikan | ライブロケーション共有
    η τωρινή τοποθεσία κοινοποιήθηκε | reāllaika atrašanās vieta | live placering delt
    सध्याचे थेट ठिकाण शेअर केले | қазіргі орынмен бөлісті | જીવંત સ્થાન શેર કરાયું | משתף מיקום בשידור חי
    lokasi terkini dikongsi | localização atual compartilhada | लाइव स्थान साझा किया गया
    jonli joylashuv ulashildi | udostępniona transmisja położenia | vị trí hiện thời được chia sẻ
    vendnodhja aktuale u shpërnda | liveposition delad | lokacija v živo je bila deljena
    bola zdieľaná aktuálna poloha | جاری مقام کا اشتراک ہوا | mahali mubashara pameshirikishwa
    இடம் நேரலையாக பகிரபட்டது | ตำแหน่งปัจจุบันถูกแบ่งปัน | مکان زنده به اشتراک گذاشته شد
    tiesioginė vieta bendrinama | posisjon i sanntid delt | live-sijainti jaettu | hetke asukoht jagatud
    trenutna lokacija podijeljena | tartózkodási hely megosztva | местоположение в реално време споделено
    লাইভ অবস্থান শেয়ার করা হয়েছে | regstreekse ligging gedeel | canlı məkan paylaşılıb | 공유한 실시간 위치
    ലൈവ് ലൊക്കേഷൻ പങ്കിട്ടു | споделено локација во живо | ನೇರ ಸ್ಥಳ ಹಂಚಿಕೊಳ್ಳಲಾಗಿದೆ
    تمت مشاركة الموقع المباشر | está a partilhar a sua localização | геодані надіслано
    локација уживо подељена | ਮੌਜੂਦਾ ਟਿਕਾਣਾ ਸਾਂਝਾ ਕੀਤਾ
    appel vocal de groupe manqué | appel vidéo de groupe manqué | llamada de grupo perdida
    videollamada grupal perdida
    tapt lydanrop | пропущенный групповой аудиозвонок
    пропущенный групповой видеозвонок | cuộc gọi thoại nhỡ
    未接語音來電 | 未接視訊來電 | 부재중 영상 통화 | مكالمة جماعية فائتة
    """
)
"""A call, or a place that is being shared, where a person's words would stand."""

UNSEEN = table(
    """
    waiting for this message | warte auf diese nachricht | warten auf diese nachricht
    esperando este mensaje | esperando el mensaje | aguardando mensagem | aguardando esta mensagem
    en attente de ce message | wachten op dit bericht | in attesa del messaggio
    you received a view once message | you sent a view once message | view once message
    you received a view once photo | you received a view once video | you received a view once voice message
    you sent a view once photo | you sent a view once video | you sent a view once voice message
    recibiste un mensaje de visualización única | enviaste un mensaje de visualización única
    você recebeu uma mensagem de visualização única | vous avez reçu un message à vue unique
    this message can't be displayed here | this message couldn't load
    no se puede mostrar este mensaje aquí | não é possível mostrar esta mensagem aqui
    """
)
"""A message that the phone has not got, or shows once. A sentence such as `This may take a while.` may follow."""

ANSWERED = table(
    """
    voice call | video call | group call | group voice call | group video call | silenced voice call
    silenced video call | sprachanruf | videoanruf | llamada | llamada de voz | videollamada
    appel vocal | appel vidéo | chamada de voz | chamada de vídeo | ligação de voz | ligação de vídeo
    chiamata vocale | videochiamata | spraakoproep | video-oproep
    """
)
"""A call, behind which stands its length or how it ended: `Voice call, 4 min`."""

ENDED = table(
    """
    no answer | ended | declined | answered on other device | answered on another device | keine antwort
    sin respuesta | sem resposta | pas de réponse | nessuna risposta | geen antwoord
    """
)
"""How a call ended: `Voice call, No answer`."""

GROUP = table(
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
    đã thêm | mã bảo mật | ได้สร้างกลุ่ม | รหัสความปลอดภัย | グループを作成 | を作成しました | 追加しました | 退出しました
    セキュリティコード | 그룹을 만들 | 추가했습니다 | 나갔습니다 | 보안 코드 | 创建了群组 | 创建了此群组
    建立了群組 | 添加了 | 安全代码 | 安全碼
    """
)
"""Part of what the app tells about a group or a phone. Looked for only in lines that have no name."""
